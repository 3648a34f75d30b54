"""Dashboard: a web page that shows what a server is doing, served by the server (`serve --http`)."""
