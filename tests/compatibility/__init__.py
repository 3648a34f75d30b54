"""What users see of statestream, stored, and compared with what the code offers now."""
