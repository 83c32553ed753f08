"""`/api/admin/*` of the platform dialect: executors, workflows, bindings, vendor keys, blocked uploaders."""
