"""Load from an open-loop schedule: latency counts from when a message was due, whatever happened to it afterwards.

A tool that waits for an answer before it sends the next message leaves out the messages that a slow server kept it
from sending, and so the worst of the latency ("coordinated omission"). Here every message has a due time before the
run begins. A message that could not be sent in time is sent late, is counted as late, and its wait is latency.

    plan ──▶ fleet ──▶ worker processes: generator ─▶ streams ─▶ tally
                └────◀ tallies, merged ──▶ report ──▶ table, JSON, CSV, HTML
"""
