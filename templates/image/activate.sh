# Activate the environment, as `conda activate` does; sourced by a POSIX shell.
export CONDA_PREFIX=@PREFIX@ CONDA_DEFAULT_ENV=@PREFIX@ CONDA_SHLVL=1
case ":${PATH}:" in
    *:@PREFIX@/bin:*) ;;
    *) export PATH="@PREFIX@/bin:${PATH}" ;;
esac
. @PREFIX@/share/imagesync/variables.sh
for imagesync_script in @PREFIX@/etc/conda/activate.d/*.sh; do
    if [ -r "${imagesync_script}" ]; then
        . "${imagesync_script}"
    fi
done
unset imagesync_script
