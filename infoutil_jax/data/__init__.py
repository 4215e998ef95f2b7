"""Images in (sources), augmented on the device, and the distilled set out (distilled)."""
