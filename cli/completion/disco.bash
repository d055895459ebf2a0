# bash completion for disco(1); installed as share/bash-completion/completions/disco
_disco_files() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")
}

_disco() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=
  COMPREPLY=()
  local subcommands="info inspect shard perf help version worker"
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="$subcommands --help -h --version"
  else
    case ${COMP_WORDS[1]} in
      help | --help | -h) [ "$COMP_CWORD" -gt 2 ] || words=$subcommands ;;
      info) words="--json --help" ;;
      inspect)
        case $before in
          --tensors) ;;
          *)
            words="--json --metadata --tensors --help"
            [[ $word == -* ]] || _disco_files
            ;;
        esac
        ;;
      shard)
        case $before in
          --workers) ;;
          --plan | --manifest) _disco_files ;;
          *)
            words="--plan --workers --dry-run --verbose --manifest --json --help"
            [[ $word == -* ]] || _disco_files
            ;;
        esac
        ;;
      perf)
        case $before in
          --op) words="allreduce allgather broadcast scatter gather sendrecv all" ;;
          --type) words="i8 u8 i16 u16 i32 u32 i64 u64 f16 bf16 f32 f64 all" ;;
          --redop) words="sum prod min max avg" ;;
          --session) words="thread process" ;;
          --ccl) words="cpu ref" ;;
          --min | --max | --factor | --iters | --warmup | --workers | --groups) ;;
          *)
            words="--op --type --redop --min --max --factor --iters --warmup --check --workers --groups --in-group"
            words="$words --session --private --ccl --json --control --help"
            ;;
        esac
        ;;
      version | --version) words=--help ;;
      worker)
        case $before in
          --load) _disco_files ;;
          --cpu) ;;
          *) words="--load --cpu --help" ;;
        esac
        ;;
    esac
  fi
  mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _disco disco
