"""Quality of judgements: agreement, what annotators are worth, what sways them besides quality, what it can show."""
