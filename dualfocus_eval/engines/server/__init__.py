"""The engine in front of servers: the same requests, answered by vLLM, SGLang or any OpenAI-compatible endpoint."""
