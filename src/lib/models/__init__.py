"""Models: encoders and the embedded one, inference, a smaller vocabulary, the temperature."""
