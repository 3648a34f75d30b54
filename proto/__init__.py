"""The wire: `v1/*.proto` and the code generated from them (`make proto`)."""
