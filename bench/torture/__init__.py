"""Does to the product what machines and people do: kills, full disks, damaged and hostile files. `just torture`.

`campaigns.py` lists the campaigns; `jobs.py` has those that run the product's commands, `damage.py` those that damage
files; `page.py` writes the figures into docs/reliability.md.
"""
