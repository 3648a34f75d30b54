"""Load test with an open-loop schedule: latency counts from a message's due time.

A tool that waits for an answer before it sends the next message leaves out the messages that a slow server kept it
from sending, and so the worst latencies ("coordinated omission"). Here every message has a due time before the run
starts. A message that could not be sent in time is sent late, is counted as late, and its wait is part of its latency.

    Plan ──▶ coordinator ──▶ worker processes: load_process ─▶ load_stream ─▶ counters
                  │                                                    └─▶ call: native_call or grpc_call
                  └────◀ counters, merged ──▶ report ──▶ table, JSON, CSV, HTML
"""
