"""Pure record headers, hashes and commitments of the audit chain."""
