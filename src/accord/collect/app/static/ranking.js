// @ts-check
/**
 * A ranking with ties and gaps, without a page: places are numbers typed in any order, equal numbers are a tie, and
 * what has no number is not ranked. Groups are read off by sorting, so 1, 1, 3 and 1, 1, 2 are the same ranking.
 */

export class Ranking {
  /** @param {number} count replies */
  constructor(count) {
    /** @type {(number | null)[]} place by position */
    this.places = Array.from({ length: count }, () => null);
  }

  /** @returns {number[][]} best group first, only what is ranked */
  groups() {
    /** @type {Map<number, number[]>} */
    const byPlace = new Map();
    this.places.forEach((place, position) => {
      if (place !== null) byPlace.set(place, [...(byPlace.get(place) ?? []), position]);
    });
    return [...byPlace.keys()].sort((a, b) => a - b).map((place) => byPlace.get(place) ?? []);
  }

  /** @returns {number[]} */
  unranked() {
    return this.places.flatMap((place, position) => (place === null ? [position] : []));
  }

  /** @param {number[][]} groups */
  setGroups(groups) {
    this.places = this.places.map(() => null);
    groups.filter((group) => group.length).forEach((group, index) => group.forEach((position) => (this.places[position] = index + 1)));
  }

  /** @param {number} position @param {number | null} place */
  put(position, place) {
    this.places[position] = place;
  }

  /** @param {number} position @returns {number | null} the place as shown: 1 for the best group */
  shownPlace(position) {
    const index = this.groups().findIndex((group) => group.includes(position));
    return index === -1 ? null : index + 1;
  }

  /**
   * One step up or down: out of a tie first, then past the neighbouring group.
   * @param {number} position @param {-1 | 1} step
   */
  move(position, step) {
    const groups = this.groups();
    const at = groups.findIndex((group) => group.includes(position));
    if (at === -1) return this.setGroups(step === -1 ? [...groups, [position]] : groups);
    const rest = groups.map((group) => group.filter((one) => one !== position));
    const tied = groups[at].length > 1;
    const target = tied ? (step === -1 ? at : at + 1) : at + step + (step === 1 ? 1 : 0);
    if (target < 0 || target > rest.length) return undefined;
    return this.setGroups([...rest.slice(0, target), [position], ...rest.slice(target)]);
  }

  /** @param {number} position  join the group above, or leave the tie for a group of its own below it */
  toggleTie(position) {
    const groups = this.groups();
    const at = groups.findIndex((group) => group.includes(position));
    if (at === -1) return;
    if (groups[at].length > 1) this.move(position, 1);
    else if (at > 0) {
      groups[at - 1].push(position);
      groups.splice(at, 1);
      this.setGroups(groups);
    }
  }

  /**
   * Drop a dragged reply before the group with this index (the number of groups: at the end).
   * @param {number} position @param {number} before
   */
  drop(position, before) {
    const groups = this.groups();
    const marked = groups.map((group) => group.filter((one) => one !== position));
    this.setGroups([...marked.slice(0, before), [position], ...marked.slice(before)]);
  }
}
