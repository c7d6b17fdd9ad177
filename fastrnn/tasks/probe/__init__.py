"""What the slides claim of Elman, GRU and LSTM, measured and drawn side by side."""
