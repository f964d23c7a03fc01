"""Tasks of this project as a `verifiers` environment, and the environments of others as tasks."""
