"""HTTP: routes, status codes, limits, drain. No ranking logic lives here."""
