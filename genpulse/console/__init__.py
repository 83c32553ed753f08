"""The console: pages for people, on the services that the API uses. It has no rule of its own."""
