# Ports of this machine, for the scripts beside this one, which source it.
listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {
    local port
    while port=$((20000 + RANDOM % 10000)); listening "$port"; do :; done
    echo "$port"
}
