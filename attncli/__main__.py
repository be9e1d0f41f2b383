"""``python -m attncli``: the same program as ``attn``, for launchers such as torchrun."""

from attncli.cli import main

if __name__ == "__main__":
    main()
