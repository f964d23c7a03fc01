"""Scripted teachers: one a task, which read a question's text and write the script that answers."""
