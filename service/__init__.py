"""The running service. A package in it imports only packages that lie below it."""
