"""A page that shows what a server is doing, served by the server itself (`serve --http`)."""
