# bash completion for disco(1); installed as share/bash-completion/completions/disco
_disco() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=
  local subcommands="info help version worker"
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="$subcommands --help -h --version"
  else
    case ${COMP_WORDS[1]} in
      help | --help | -h) [ "$COMP_CWORD" -gt 2 ] || words=$subcommands ;;
      info) words="--json --help" ;;
      version | --version) words=--help ;;
      worker)
        case $before in
          --load)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
            ;;
          --cpu) ;;
          *) words="--load --cpu --help" ;;
        esac
        ;;
    esac
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _disco disco
