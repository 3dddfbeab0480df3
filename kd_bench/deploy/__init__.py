"""From student to decision: export, profile, gate, model card, monitoring. Each is a command."""
