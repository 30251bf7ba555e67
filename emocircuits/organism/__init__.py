"""The organism: a small language model trained on a world whose causes are known."""
