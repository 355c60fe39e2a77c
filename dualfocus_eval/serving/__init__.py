"""Command lines that serve a model with vLLM or SGLang, set up for two images per prompt. Nothing is started here."""
