"""What the model is asked, and how its text becomes a reply."""
