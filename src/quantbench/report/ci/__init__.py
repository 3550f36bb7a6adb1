"""What a CI system reads of ``run`` and ``gate``: JUnit XML, GitHub annotations, a job summary."""
