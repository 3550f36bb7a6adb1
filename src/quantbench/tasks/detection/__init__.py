"""Object detection as a task: COCO's sets and metric, and the detectors that are measured by it."""
