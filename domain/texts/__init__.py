"""What the service writes by itself: documents, announcements, differences."""
