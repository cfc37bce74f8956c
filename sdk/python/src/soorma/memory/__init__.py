"""Working memory: `soorma.memory.client.MemoryClient`, and `soorma.workflow.WorkflowState` on top of it."""
