"""The fault runs, one a file: `async def run(bed) -> Outcome`, which raises where a claim about rows does not hold."""
