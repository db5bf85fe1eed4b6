"""What all jobs share: the protocol of a job, the command line, Ray sessions, maps over parts."""
