"""How queries meet keys, a file each; all are listed in ``attncli.attention.table``."""
