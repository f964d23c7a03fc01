"""Parts of the GRPO loss, one small pure function per published form."""
