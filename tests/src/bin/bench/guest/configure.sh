# Works as the scripts of autoconf do: small programs are written, preprocessed, compiled and
# searched, results are collected, and a template is filled in from them.
set -e

for header in errno fcntl limits pthread stdio stdlib string unistd sys/mman sys/stat; do
    cat >conftest.c <<END
#include <$header.h>
int main(void) { return 0; }
END
    name="$(echo "$header" | sed 's,[^a-z],_,g' | tr a-z A-Z)"
    if gcc -E conftest.c >conftest.i 2>conftest.err && grep -q "$header" conftest.i; then
        echo "#define HAVE_${name}_H 1" >>confdefs.h
    fi
    rm -f conftest.*
done

for function in memcpy mmap no_such_function strlcpy vsnprintf; do
    cat >conftest.c <<END
char $function(void);
int main(void) { return $function(); }
END
    if gcc -fno-builtin -o conftest conftest.c 2>conftest.err; then
        echo "#define HAVE_$function 1" >>confdefs.h
    else
        grep -q "$function" conftest.err
    fi
    rm -f conftest conftest.*
done

cp /srv/Makefile.in Makefile.in
while read -r word name value; do
    test "$word" = '#define'
    sed "s,@$name@,$value," Makefile.in >Makefile.new
    mv Makefile.new Makefile.in
done <confdefs.h
mv Makefile.in Makefile
grep -c 1 Makefile >/dev/null
