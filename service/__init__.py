"""HTTP only: FastAPI routes, schemas, errors and prediction over what the store remembers."""
