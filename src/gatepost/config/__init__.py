"""The settings: what gatepost.toml may say, how it is read, and what is told when it is wrong.

  settings.py      every setting, declared once: name, type, default, one sentence
  declarations.py  the declarations as data: each setting's type, and a TOML value of that type read and written
  values.py        durations, sizes and networks: text to value and back
  endpoints.py     listening addresses, relayhost, name servers: text to value and back
  locate.py        which line of a TOML text a key stands on
  problems.py      Problem, SettingsError, and the list that problems are gathered in
  checks.py        what single values cannot show: settings that contradict each other or open the server to everyone
  load.py          TOML text -> Settings, or SettingsError with all that is wrong
  describe.py      Settings -> reference page, sample file, `gatepost config show`

Invariants: no setting exists that settings.py does not declare. Any text gives Settings or SettingsError. Everything that
is wrong is told at once, with file and line. `show` of loaded Settings loads to the same Settings.
"""
