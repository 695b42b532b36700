"""What `accord init` and `accord demo` start from."""
