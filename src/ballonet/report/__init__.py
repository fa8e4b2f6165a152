"""What a run leaves behind, real or simulated: records, results and charts."""
