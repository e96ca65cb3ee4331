"""What every workload and backend needs: programs, fixtures, processes, memory."""
