"""Load, measurements and their reports. Stands beside the floors and may import any."""
