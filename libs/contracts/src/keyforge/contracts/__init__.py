"""What services say to each other: events, frames, bus messages, directory entries, subjects, errors. Pure values."""
