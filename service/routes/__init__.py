"""The API's routes under /api/v1, a file for each thing that is asked about."""
