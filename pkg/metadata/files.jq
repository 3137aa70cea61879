# One line for each folder and file: kind, permissions, path, contents in base64.
def walked($path):
  to_entries[]
  | .value as $value
  | (if $path == "" then .key else $path + "/" + .key end) as $at
  | if ($value | type) != "object" then error("expected an object at \($at)")
    elif $value.content != null then "file \($value.perm // "0644") \($at | @base64) \($value.content | @base64)"
    else "folder \($value.perm // "0755") \($at | @base64) -", (($value.entries // {}) | walked($at))
    end;
walked("")
