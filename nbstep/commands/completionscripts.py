"""The verb `completion`: what bash, zsh and fish need to complete `nbstep`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nbstep.commands.line import Arguments, CommandOutcome, UsageError
from nbstep.commands.tables import Screen
from nbstep.words import shown

_BASH: Final = """\
# bash completion of nbstep. In ~/.bashrc:  source <(nbstep completion bash)
_nbstep() {
    local line flags=
    COMPREPLY=()
    while IFS= read -r line; do
        if [ -z "$flags" ]; then flags=".$line"; else COMPREPLY+=("$line"); fi
    done < <(command nbstep __complete bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null)
    case "$flags" in *partly*) compopt -o nospace ;; esac
    case "$flags" in *files*) compopt -o default ;; esac
}
complete -F _nbstep nbstep
"""
_ZSH: Final = """\
#compdef nbstep
# zsh completion of nbstep. In ~/.zshrc, behind compinit:  source <(nbstep completion zsh)
_nbstep() {
    local -a said
    said=("${(@f)$(command nbstep __complete zsh "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    local -a more
    [[ $said[1] == *partly* ]] && more=(-S '')
    (( $#said > 1 )) && compadd -V nbstep "${more[@]}" -- "${(@)said[2,-1]}"
    [[ $said[1] == *files* ]] && _files
}
if [[ $funcstack[1] == _nbstep ]]; then _nbstep "$@"; else compdef _nbstep nbstep; fi
"""
_FISH: Final = """\
# fish completion of nbstep. Once:  nbstep completion fish > ~/.config/fish/completions/nbstep.fish
function __nbstep_complete
    set -l words (commandline -xpc 2>/dev/null; or commandline -opc)
    set -l said (command nbstep __complete fish $words[2..] (commandline -ct) 2>/dev/null)
    string match -q '*files*' -- $said[1]; and __fish_complete_path (commandline -ct)
    printf '%s\\n' $said[2..]
end
complete -c nbstep -f -k -a '(__nbstep_complete)'
"""
_SCRIPTS: Final[Mapping[str, str]] = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def tell_completion(arguments: Arguments, screen: Screen) -> CommandOutcome:
    """The script of one shell."""
    shell = arguments.words[0]
    if shell not in _SCRIPTS:
        raise UsageError(f"completion takes bash, zsh or fish, not {shown(shell)}: {screen.command} completion bash")
    return CommandOutcome(_SCRIPTS[shell].rstrip("\n"))
