"""Working memory: `client.MemoryClient`, with `soorma.workflow.WorkflowState` on top of it."""
