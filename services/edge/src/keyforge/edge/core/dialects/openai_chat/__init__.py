"""OpenAI's chat completions and embeddings, as agents send them and providers answer them."""
