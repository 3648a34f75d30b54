"""Recurrent cells behind one interface: `base.Cell`. `registry.build_cell` makes one from its options."""
