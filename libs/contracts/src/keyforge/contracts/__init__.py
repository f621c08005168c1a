"""What services agree on: events, frames, bus messages, directory entries, subjects, members, errors. Pure values."""
