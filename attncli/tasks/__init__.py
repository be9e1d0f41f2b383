"""One file a task: data, model, loss and metric behind the Task contract."""
