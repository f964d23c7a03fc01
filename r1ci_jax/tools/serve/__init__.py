"""An endpoint of OpenAI's protocol: many conversations share the slots of one sampler."""
