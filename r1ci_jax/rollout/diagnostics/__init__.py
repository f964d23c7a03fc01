"""What a step's batch was like: by task, suite and potential group, signal, self-checks."""
