"""The facts, messages and names that KeyForge's services agree on."""
